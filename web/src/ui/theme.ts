// Dark or light: what the system says, unless somebody has chosen. The choice stays in the browser.

import { signal } from '@preact/signals';

export type Theme = 'auto' | 'light' | 'dark';
const STORED_AS = 'atoll.theme';

function stored(): Theme {
  try {
    const text = localStorage.getItem(STORED_AS);
    return text === 'light' || text === 'dark' ? text : 'auto';
  } catch {
    return 'auto'; // the browser keeps nothing
  }
}

export const theme = signal<Theme>(stored());
const systemIsDark = matchMedia('(prefers-color-scheme: dark)');
/** Whether it is dark now; for what is painted rather than styled. */
export const dark = signal(false);

export function applyTheme(): void {
  const chosen = theme.peek();
  if (chosen === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  dark.value = chosen === 'dark' || (chosen === 'auto' && systemIsDark.matches);
}

systemIsDark.addEventListener('change', applyTheme);

export function chooseTheme(chosen: Theme): void {
  theme.value = chosen;
  try {
    localStorage.setItem(STORED_AS, chosen);
  } catch {
    // Then it holds until the page is closed.
  }
  applyTheme();
}
