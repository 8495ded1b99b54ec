// What somebody sees who has just installed Atoll: how to make the first session.

import { mayWrite, me } from '../data/me';
import { announce } from '../ui/announce';
import { CopyIcon } from '../ui/icons';

function Commands({ text }: { text: string }) {
  const copy = () => {
    navigator.clipboard.writeText(text)
      .then(() => announce('Copied'), () => announce('Not copied'));
  };
  return (
    <div class="commands">
      <pre class="code" tabIndex={0}>{text}</pre>
      {navigator.clipboard && (
        <button class="button quiet icon" onClick={copy} aria-label="Copy" title="Copy">
          <CopyIcon />
        </button>
      )}
    </div>
  );
}

export function NoSessions() {
  const base = `${location.origin}/v1/sessions`;
  const who = me.value;
  const hasToken = who?.auth === 'token';
  if (hasToken && !mayWrite(who)) {
    return (
      <section class="empty">
        <h1>No sessions yet</h1>
        <p class="muted">None that your token reaches ({who.sessions.join(', ') || 'none at all'}).
          As soon as there is one it appears here.</p>
      </section>
    );
  }
  return (
    <section class="empty">
      <h1>No sessions yet</h1>
      <p class="muted">
        As soon as there is one it appears here. The first one, with two agents, a thread and a
        message:
      </p>
      <Commands text={`A=${base}/demo
J='Content-Type: application/json'
${hasToken ? `T='Authorization: Bearer YOUR-TOKEN'
curl() { command curl -H "$T" "$@"; }
` : ''}curl -X PUT $A
curl -H "$J" $A/agents -d '{"agent":"planner"}'
curl -H "$J" $A/agents -d '{"agent":"coder"}'
curl -H "$J" $A/threads -d '{"thread":"plan","creator":"planner",
  "name":"The plan","participants":["coder"]}'
curl -H "$J" $A/threads/plan/messages -d '{"sender":"planner",
  "content":"Please begin.","mentions":["coder"]}'`} />
      <p class="muted">Or watch whole runs being played, in place of this server:</p>
      <Commands text="bash deploy/run.sh --demo" />
      <p class="muted">
        All that the server can do:{' '}
        <a href="/openapi.yaml" target="_blank" rel="noopener">openapi.yaml</a>
      </p>
    </section>
  );
}
