// A component that is only drawn again where its props differ.

import { Component, type ComponentType, type FunctionComponent } from 'preact';

function sameProps(a: object, b: object): boolean {
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) =>
    Object.is(a[name as keyof object], (b as Record<string, unknown>)[name]));
}

export function memo<P extends object>(
  Inner: FunctionComponent<P>, same: (a: P, b: P) => boolean = sameProps): ComponentType<P> {
  return class extends Component<P> {
    override shouldComponentUpdate(next: P): boolean {
      return !same(this.props as P, next);
    }

    override render() {
      return <Inner {...this.props as P} />;
    }
  };
}
