// What keeps people from using a page, as far as a program can tell (WCAG 2.2, levels A and AA): a list of faults.
() => {
  const faults = [];
  const all = (selector) => [...document.querySelectorAll(selector)];
  const name = (element) => element.outerHTML.slice(0, 100);
  const fault = (what, element) => faults.push(element ? `${what}: ${name(element)}` : what);
  const shown = (element) => element.checkVisibility() && element.getClientRects().length > 0;

  // 3.1.1, 2.4.2, 1.3.1: language, title, landmarks, headings in order
  if (document.documentElement.lang !== 'en') fault('no language');
  if (!document.title.trim()) fault('no title');
  if (all('main').length !== 1 || all('header').length !== 1) fault('not one main and one header');
  if (all('h1').length !== 1) fault('not one h1');
  let level = 0;
  for (const heading of all('h1, h2, h3, h4')) {
    const here = Number(heading.tagName[1]);
    if (here > level + 1) fault('a level of headings is left out', heading);
    if (!heading.innerText.trim()) fault('an empty heading', heading);
    level = here;
  }

  // 4.1.2, 1.3.1: ids once, fields labelled, descriptions there, buttons and links named
  const ids = all('[id]').map((element) => element.id);
  for (const id of new Set(ids)) if (ids.filter((other) => other === id).length > 1) fault(`id ${id} twice`);
  for (const field of all('input:not([type=hidden]), select, textarea')) {
    if (!field.labels.length || !field.labels[0].innerText.trim()) fault('no label', field);
    for (const id of (field.getAttribute('aria-describedby') || '').split(' ').filter(Boolean)) {
      if (!document.getElementById(id)) fault(`no description ${id}`, field);
    }
  }
  for (const element of all('button, a, summary')) if (!element.textContent.trim()) fault('no name', element);
  for (const element of all('[for]')) if (!document.getElementById(element.htmlFor)) fault('label of nothing', element);
  for (const table of all('table')) {
    if (!table.caption) fault('a table without caption', table);
    if (table.querySelector('th:not([scope])')) fault('a heading of a table without scope', table);
  }
  for (const list of all('ul')) {
    if ([...list.children].some((child) => child.tagName !== 'LI')) fault('not only items in a list', list);
  }
  if (all('[tabindex]').some((element) => element.tabIndex > 0)) fault('an order of focus of its own');
  if (all('[autofocus]').length > 1) fault('more than one autofocus');

  // 1.4.10: no scrolling sideways; 2.5.8: targets of 24 px and more, those within a line of text apart
  if (document.documentElement.scrollWidth > innerWidth) fault(`${document.documentElement.scrollWidth} px wide`);
  for (const target of all('button, input:not([type=hidden]), select, textarea, summary, nav a')) {
    const box = target.getBoundingClientRect();
    const label = target.labels && target.labels[0];
    const height = Math.max(box.height, label && label.contains(target) ? label.getBoundingClientRect().height : 0);
    if (shown(target) && height < 24) fault(`a target ${height} px high`, target);
  }

  // 1.4.3, 1.4.11: contrast of texts, and of the edges of fields
  const parts = (colour) => colour.match(/[\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = parts(colour).map((value) => value / 255)
      .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const paper = (element) => {
    for (let here = element; here; here = here.parentElement) {
      const colour = getComputedStyle(here).backgroundColor;
      const alpha = parts(colour)[3];
      if (alpha === undefined || alpha === 1) return colour;
      if (alpha > 0) fault(`half a background ${colour}`, here);
    }
    return fault('no background'), 'rgb(255, 255, 255)';
  };
  let texts = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.nodeValue.trim() || !shown(element)) continue;
    texts += 1;
    const style = getComputedStyle(element);
    if (style.opacity !== '1') fault('half a text', element);
    const found = contrast(style.color, paper(element));
    if (found < 4.5) fault(`contrast ${found.toFixed(2)}`, element);
  }
  if (texts < 5) fault('hardly any text was looked at');
  for (const field of all('input:not([type=hidden]), select, textarea').filter(shown)) {
    const found = contrast(getComputedStyle(field).borderTopColor, paper(field.parentElement));
    if (found < 3) fault(`contrast of an edge ${found.toFixed(2)}`, field);
  }
  return faults;
}
