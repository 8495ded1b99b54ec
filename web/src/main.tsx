// The dashboard's entry: the shell around the pages. Each page is a script of its own, loaded when
// its address is opened.

import { render } from 'preact';
import './ui/theme.css';
import './ui/base.css';
import './ui/shell.css';
import 'uplot/dist/uPlot.min.css';
import './sessions/sessions.css';
import './session/session.css';
import './server/server.css';
import { applyTheme } from './ui/theme';
import { Shell } from './ui/shell';

applyTheme();
render(<Shell />, document.body);
