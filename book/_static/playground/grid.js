// A grid of cells that can be reached, read out and changed by keyboard.
"use strict";

// Options: colour(n), words(n), step(n, direction), chosen(n), enter(): see page.js.
gentok.Grid = class {
  constructor(element, options) {
    Object.assign(this, { element, options, at: 0, cells: [] });
    element.addEventListener("keydown", (event) => this.key(event));
    element.addEventListener("click", (event) => {
      const cell = event.target.closest("[role=gridcell]");
      if (cell) this.go(this.cells.indexOf(cell));
    });
  }

  draw(rows, columns, edited) {
    if (this.rows !== rows || this.columns !== columns) this.build(rows, columns);
    this.cells.forEach((cell, n) => {
      cell.style.backgroundColor = this.options.colour(n);
      const [row, column] = [Math.floor(n / columns) + 1, (n % columns) + 1];
      const changed = edited.has(n);
      cell.setAttribute("aria-label", `row ${row}, column ${column}: ${this.options.words(n)}${changed ? ", changed" : ""}`);
      cell.classList.toggle("pg-edited", changed);
    });
    this.mark();
  }

  build(rows, columns) {
    Object.assign(this, { rows, columns, at: 0, cells: [] });
    this.element.replaceChildren();
    this.element.style.setProperty("--columns", columns);
    for (let row = 0; row < rows; row += 1) {
      const line = document.createElement("div");
      line.setAttribute("role", "row");
      for (let column = 0; column < columns; column += 1) {
        const cell = document.createElement("span");
        cell.setAttribute("role", "gridcell");
        this.cells.push(cell);
        line.append(cell);
      }
      this.element.append(line);
    }
  }

  // One cell alone is reached by Tab: the chosen one.
  mark() {
    this.cells.forEach((cell, n) => {
      cell.tabIndex = n === this.at ? 0 : -1;
      cell.setAttribute("aria-selected", n === this.at);
    });
  }

  go(n) {
    this.at = n;
    this.mark();
    this.cells[n].focus();
    this.options.chosen(n);
  }

  key(event) {
    const column = this.at % this.columns;
    const last = this.cells.length - 1;
    const moves = {
      ArrowLeft: column > 0 ? -1 : 0,
      ArrowRight: column < this.columns - 1 ? 1 : 0,
      ArrowUp: this.at >= this.columns ? -this.columns : 0,
      ArrowDown: this.at + this.columns <= last ? this.columns : 0,
      Home: -column,
      End: this.columns - 1 - column,
    };
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key in moves) this.go(this.at + moves[event.key]);
    else if (event.key === "+" || event.key === "-") this.options.step(this.at, event.key === "+" ? 1 : -1);
    else if (event.key === "Enter") this.options.enter();
    else return;
    event.preventDefault();
  }
};

// Blue below nought, orange above, pale at nought: told apart with any form of colour blindness.
gentok.diverging = (value, largest) => {
  const share = Math.max(-1, Math.min(1, value / (largest || 1)));
  const end = share < 0 ? [0, 90, 160] : [200, 90, 0];
  const mixed = end.map((v) => Math.round(245 + (v - 245) * Math.abs(share)));
  return `rgb(${mixed.join(",")})`;
};

// Codes that stand close together in the codebook have similar colours.
gentok.codeColours = ({ data, shape: [size, dim] }) => {
  const values = [0, 1, 2].map((d) => Float32Array.from({ length: size }, (_, k) => data[k * dim + d]));
  const ends = values.map((row) => [Math.min(...row), Math.max(...row)]);
  return Array.from({ length: size }, (_, k) => {
    const parts = values.map((row, d) => 60 + (180 * (row[k] - ends[d][0])) / (ends[d][1] - ends[d][0]));
    return `rgb(${parts.map(Math.round).join(",")})`;
  });
};
