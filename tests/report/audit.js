// What a careful reader would find wrong with the page in the frame: things without a name, text hard to read, overflow.
(() => {
  const page = document.querySelector("iframe").contentDocument, view = page.defaultView, wrong = [];
  const named = (e) => (e.getAttribute("aria-label") || e.getAttribute("alt") || "").trim();
  page.querySelectorAll("img, svg[role=img], pre[tabindex], [role=region]").forEach((e) => named(e) || wrong.push("no name: " + e.outerHTML.slice(0, 80)));
  page.querySelectorAll("svg").forEach((e) => e.getAttribute("role") === "img" || wrong.push("svg without role"));
  page.querySelectorAll("img").forEach((e) => e.naturalWidth > 0 || wrong.push("image does not load: " + e.alt));
  page.querySelectorAll("a[href^='#']").forEach((e) => page.querySelector(e.getAttribute("href")) || wrong.push("link to nothing: " + e.href));
  page.querySelectorAll("table").forEach((e) => (e.caption && e.querySelector("th[scope=col]")) || wrong.push("table without caption or header"));
  const ids = [...page.querySelectorAll("[id]")].map((e) => e.id);
  if (new Set(ids).size !== ids.length) wrong.push("id used twice");
  let level = 0;
  page.querySelectorAll("h1, h2, h3").forEach((e) => { const n = +e.tagName[1]; if (n > level + 1) wrong.push("heading skips a level: " + e.textContent); level = n; });
  const wide = page.documentElement.scrollWidth, room = view.innerWidth;
  if (wide > room + 1) wrong.push(`page is ${wide} px wide in ${room}`);

  const channels = (c) => c.match(/[\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map((v) => (v /= 255, v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)).reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => { for (; e; e = e.parentElement) { const c = channels(view.getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  const walk = page.createTreeWalker(page.body, NodeFilter.SHOW_TEXT);
  let texts = 0;
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement, style = view.getComputedStyle(e);
    if (!walk.currentNode.data.trim() || style.display === "none" || e.closest("style, script, details:not([open])")) continue;
    const inSvg = e.closest("svg"), ink = channels(inSvg ? style.fill : style.color), paper = behind(inSvg ? inSvg.parentElement : e);
    const [a, b] = [luminance(ink), luminance(paper)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
    texts++;
    if (ratio < 4.5) wrong.push(`contrast ${ratio.toFixed(1)}: ${walk.currentNode.data.trim().slice(0, 40)}`);
    if (parseFloat(style.fontSize) < 9) wrong.push(`${style.fontSize} text: ${walk.currentNode.data.trim().slice(0, 40)}`);
  }
  const dark = view.matchMedia("(prefers-color-scheme: dark)").matches;
  const said = document.createElement("output");
  said.textContent = JSON.stringify({ wrong, texts, dark, room });
  document.body.replaceChildren(said);
})();
