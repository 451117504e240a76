// Opens the page's data, draws its figures, and fills its tables.
'use strict';
(async () => {
  const root = document.documentElement;
  root.dataset.theme = matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light';
  const figures = {};
  const paint = () => Object.values(figures).forEach(figure => figure.redraw());
  const button = document.createElement('button');
  const name = () => { button.textContent = root.dataset.theme === 'dark' ? 'light theme' : 'dark theme'; };
  button.id = 'theme';
  button.onclick = () => {
    root.dataset.theme = root.dataset.theme === 'dark' ? 'light' : 'dark';
    name();
    paint();
  };
  document.body.append(button);
  name();

  const inflate = async text => {
    const packed = Uint8Array.from(atob(text), c => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };
  let data;
  try {
    data = numbers.unpack(await inflate(document.getElementById('packed').textContent));
  } catch (error) {
    const banner = document.createElement('div');
    banner.className = 'banner';
    banner.textContent = `The charts and lists cannot be opened (${error.message}): use a browser of 2023 or later.`;
    document.querySelector('main').prepend(banner);
    return;
  }
  const {about, columns} = data;
  for (const [column, [kind, ...of]] of Object.entries(about.derived)) columns[column] = numbers.derive[kind](columns, ...of);

  for (const [id, figure] of Object.entries(about.figures)) {
    figures[id] = new charts.Figure(document.getElementById(id), figure, columns);
    if (figure.x === 'time') figures[id].zoom(null);
  }

  // A number at the head of a text, for sorting; null where there is none.
  const number = text => {
    const found = /^[+\-]?[\d,]*\.?\d+(e[+\-]?\d+)?/i.exec(text);
    return found ? Number(found[0].replaceAll(',', '')) : null;
  };
  const compare = (a, b) => {
    const [x, y] = [number(a), number(b)];
    if (x !== null && y !== null && !/^\d{4}-/.test(a)) return x - y || a.localeCompare(b);
    return a.localeCompare(b);
  };
  const go = (from, to, label, pad) => {
    if (!figures.run) return;
    figures.run.choose(from, to, label, pad);
    figures.run.place.scrollIntoView({behavior: 'smooth', block: 'start'});
  };

  for (const [id, list] of Object.entries(about.tables)) {
    const place = document.getElementById(id);
    const [input, body, count, scroll] = ['input', 'tbody', '.count', '.scroll'].map(part => place.querySelector(part));
    const heads = [...place.querySelectorAll('th')];
    const lower = list.rows.map(row => row.join(' ').toLowerCase());
    let sorted = null;
    let hits = [];
    let chosen = -1;
    const choose = (tr, i) => {
      chosen = i;
      place.querySelector('tr.chosen')?.classList.remove('chosen');
      tr.classList.add('chosen');
      go(list.from[i], list.to[i], list.labels[i], list.pad + 0.5 * (list.to[i] - list.from[i]));
    };
    const line = i => {
      const tr = document.createElement('tr');
      tr.tabIndex = 0;
      if (i === chosen) tr.className = 'chosen';
      for (const text of list.rows[i]) {
        const td = document.createElement('td');
        td.textContent = text;
        tr.append(td);
      }
      tr.onclick = () => choose(tr, i);
      tr.onkeydown = event => { if (event.key === 'Enter') choose(tr, i); };
      return tr;
    };
    const more = () => {
      const shown = body.children.length;
      body.append(...hits.slice(shown, shown + 100).map(line));
    };
    const fill = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      hits = lower.flatMap((text, i) => (words.every(word => text.includes(word)) ? [i] : []));
      if (sorted) hits.sort((a, b) => sorted.way * compare(list.rows[a][sorted.column], list.rows[b][sorted.column]) || a - b);
      count.textContent = `${hits.length.toLocaleString('en')} of ${list.rows.length.toLocaleString('en')}`;
      body.replaceChildren();
      scroll.scrollTop = 0;
      more();
    };
    heads.forEach((head, column) => {
      const sort = head.querySelector('button');
      sort.onclick = () => {
        sorted = {column, way: sorted && sorted.column === column ? -sorted.way : 1};
        heads.forEach(other => other.removeAttribute('aria-sort'));
        head.setAttribute('aria-sort', sorted.way > 0 ? 'ascending' : 'descending');
        fill();
      };
    });
    scroll.onscroll = () => { if (scroll.scrollTop + scroll.clientHeight > scroll.scrollHeight - 300) more(); };
    input.oninput = fill;
    fill();
  }
  document.querySelectorAll('[data-from]').forEach(row => {
    const act = () => {
      const [from, to] = [Number(row.dataset.from), Number(row.dataset.to)];
      go(from, to, row.dataset.label, 0.2 * (to - from) + 1);
    };
    row.onclick = act;
    row.onkeydown = event => { if (event.key === 'Enter') act(); };
  });

  // Paper is light, and as wide as A4 and letter are within their margins; its layout comes too late to be measured.
  const PAPER = 660;
  addEventListener('beforeprint', () => {
    root.dataset.screen = root.dataset.theme;
    root.dataset.theme = 'light';
    Object.values(figures).forEach(figure => figure.resize(PAPER));
    paint();
  });
  addEventListener('afterprint', () => {
    root.dataset.theme = root.dataset.screen;
    Object.values(figures).forEach(figure => figure.resize());
    paint();
  });
  root.dataset.ready = 'yes';
})();
