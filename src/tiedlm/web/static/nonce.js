// plotly adds style elements. The page's policy allows those that have its nonce.

{
  const { nonce } = document.currentScript;
  const create = document.createElement;
  document.createElement = function createElement(...given) {
    const made = create.apply(this, given);
    if (made instanceof HTMLStyleElement) made.nonce = nonce;
    return made;
  };
}
