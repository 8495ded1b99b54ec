// Something did not work: said in one place, with what can be done about it.

import type { ComponentChildren } from 'preact';
import type { Problem } from '../data/types';

export function ProblemCard({ problem, children }: {
  problem: Pick<Problem, 'title' | 'detail'>; children?: ComponentChildren;
}) {
  return (
    <section class="empty" role="alert">
      <h1>{problem.title}</h1>
      <p class="muted">{problem.detail}</p>
      {children}
    </section>
  );
}
