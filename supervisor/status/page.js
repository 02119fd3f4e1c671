"use strict";
// Replace the main element only: the scroll position stays, and lists that are open stay open.
const refresh = async () => {
  const before = document.querySelector("main");
  try {
    const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(4000) });
    if (!answer.ok) throw new Error(answer.statusText);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const after = page.querySelector("main");
    for (const folded of before.querySelectorAll("details")) {
      const same = page.getElementById(folded.id);
      if (same) same.open = folded.open;
    }
    before.replaceWith(document.adoptNode(after));
    document.title = page.title;
    document.body.classList.remove("stale");
  } catch {
    document.body.classList.add("stale");
  }
};
const loop = async () => {
  if (!document.hidden) await refresh();
  setTimeout(loop, 5000);
};
setTimeout(loop, 5000);
