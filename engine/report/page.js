// Draws the page's figures in the colours of the theme, and fills the table of decisions.
'use strict';
(() => {
  const root = document.documentElement;
  const read = id => JSON.parse(document.getElementById(id).textContent);
  const figures = read('figures-json');
  const data = read('data-json');

  // A string that begins with $ is a colour of the style sheet; arrays of numbers are passed as they are.
  const paint = (node, css) => {
    if (typeof node === 'string') return node[0] === '$' ? css.getPropertyValue('--' + node.slice(1)).trim() : node;
    if (Array.isArray(node)) return typeof node[0] === 'number' ? node : node.map(item => paint(item, css));
    if (!node || typeof node !== 'object') return node;
    return Object.fromEntries(Object.entries(node).map(([key, value]) => [key, paint(value, css)]));
  };
  const draw = () => {
    const css = getComputedStyle(root);
    for (const [id, figure] of Object.entries(figures)) {
      const {data: traces, layout} = paint(figure, css);
      const buttons = ['toImage', 'select2d', 'lasso2d', 'autoScale2d', 'zoomIn2d', 'zoomOut2d'];
      // On a narrow page the tool bar would lie over the legend.
      const tools = id === 'run' && traces.length > 0 && document.getElementById(id).clientWidth > 800;
      Plotly.react(id, traces, layout, {responsive: true, displaylogo: false, modeBarButtonsToRemove: buttons,
        displayModeBar: tools});
    }
  };
  const button = document.createElement('button');
  const name = () => { button.textContent = root.dataset.theme === 'dark' ? 'light theme' : 'dark theme'; };
  root.dataset.theme = matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light';
  button.id = 'theme';
  button.onclick = () => {
    root.dataset.theme = root.dataset.theme === 'dark' ? 'light' : 'dark';
    name();
    draw();
  };
  document.body.append(button);
  name();
  draw();

  const place = document.getElementById('decisions');
  if (!place || !data) return;
  const [input, body, count, more] = ['input', 'tbody', '.count', '.more'].map(part => place.querySelector(part));
  const lower = data.rows.map(row => row.join(' ').toLowerCase());
  let shown = 100;
  const line = i => {
    const tr = document.createElement('tr');
    for (const text of data.rows[i]) {
      const td = document.createElement('td');
      td.textContent = text;
      tr.append(td);
    }
    tr.onclick = () => {
      Plotly.relayout('run', {'xaxis.range': [data.times[i] - data.window, data.times[i] + data.window]});
      document.getElementById('run').scrollIntoView({behavior: 'smooth', block: 'center'});
    };
    return tr;
  };
  const fill = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const hits = lower.flatMap((text, i) => (words.every(word => text.includes(word)) ? [i] : []));
    body.replaceChildren(...hits.slice(0, shown).map(line));
    count.textContent = `${hits.length.toLocaleString('en')} found`;
    more.hidden = hits.length <= shown;
  };
  input.oninput = () => { shown = 100; fill(); };
  more.onclick = () => { shown += 400; fill(); };
  fill();
})();
