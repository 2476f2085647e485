// What scrolls inside a page can be reached, and so scrolled, by keyboard.
(() => {
  const query = ".bd-content :is(pre, table, div.math, div.cell_output, div.output, figure, svg)";
  const mark = () => {
    for (const node of document.querySelectorAll(query)) {
      const scrolls = node.scrollWidth > node.clientWidth + 1 || node.scrollHeight > node.clientHeight + 1;
      const may = /auto|scroll/.test(getComputedStyle(node).overflow);
      if (scrolls && may && !node.hasAttribute("tabindex")) node.tabIndex = 0;
    }
  };
  addEventListener("load", () => {
    mark();
    window.MathJax?.startup?.promise?.then(mark);
  });
  addEventListener("resize", mark);
})();
