"""How the pages look: a module of its own, as the service has these rules and no JAX."""

#: Rules that are not in the report of an evaluation.
STYLE = """
h3 { font-size: 1.05rem; margin: 1.6rem 0 0.3rem; }
h4 { font-size: 0.95rem; margin: 1.1rem 0 0.6rem; }
p { max-width: 46rem; } a { color: inherit; }
a:focus-visible, button:focus-visible, summary:focus-visible, .wide:focus-visible {
  outline: 3px solid var(--mark); outline-offset: 2px; }
.answer { border: 1px solid var(--line); border-left: 6px solid var(--mark); border-radius: 6px;
  padding: 0.2rem 1rem; margin: 1rem 0; background: var(--band); }
.answer h2 { border: 0; margin: 0.5rem 0; font-size: 1.3rem; }
dd, code { overflow-wrap: anywhere; } code { font-size: 0.9em; }
.plot { display: grid; grid-template: 11rem auto 6rem auto / 2rem 1fr; gap: 0.3rem;
  max-width: 46rem; margin: 0; }
.plot svg { width: 100%; height: 11rem; overflow: visible; grid-area: 1 / 2; }
.plot .y, .plot .x { display: flex; justify-content: space-between; color: var(--soft);
  font-size: 0.85rem; font-variant-numeric: tabular-nums; }
.plot .y { grid-area: 1 / 1; flex-direction: column; text-align: end; margin: -0.6rem 0; }
.plot .x { grid-area: 2 / 2; direction: ltr; } .plot figcaption { grid-area: 4 / 2; }
.walk { grid-area: 1 / 2 / 4 / 2; position: relative; margin: 0; border: 0; padding: 0;
  min-width: 0; }
.walk legend, .unseen { position: absolute; width: 1px; height: 1px; overflow: hidden;
  clip-path: inset(50%); white-space: nowrap; }
.walk label { display: contents; cursor: crosshair; }
.walk .strip { position: absolute; top: 0; height: 11rem; }
.walk input { position: absolute; inset: 0; width: 100%; height: 11rem; margin: 0; opacity: 0;
  pointer-events: none; }
.walk .ring { display: none; position: absolute; width: 20px; height: 20px; margin: -10px;
  border: 2px solid var(--mark); border-radius: 50%; pointer-events: none; }
.walk .shown { display: none; position: absolute; inset: auto 0 0 0; height: 6rem; gap: 0.8rem;
  align-items: center; background: var(--page); cursor: auto; }
.walk .shown img { width: 6rem; height: 6rem; border-radius: 4px; flex: none; }
.walk :checked ~ .ring, .walk .strip:hover ~ .ring { display: block; }
.walk :checked ~ .shown, .walk .strip:hover ~ .shown { display: flex; }
.walk .strip:hover ~ .shown { z-index: 1; }
.walk :focus-visible ~ .ring { outline: 3px solid var(--mark); outline-offset: 2px; }
.frame { fill: none; stroke: var(--soft); } .band { stroke: none; }
.hatch { stroke: var(--soft); stroke-width: 1; opacity: 0.6; }
.edge { stroke: var(--soft); } .step { stroke: var(--ink); opacity: 0.45; }
.mean { stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 7 4; }
.fake { fill: var(--mark); stroke: var(--page); }
.inconclusive { fill: var(--page); stroke: var(--ink); stroke-width: 2; }
.real, .unplaced { fill: var(--ink); stroke: var(--page); }
.crops { gap: 0.8rem; } .heat { width: 8rem; }
.crops figure { width: min(8rem, calc((100% - 1.6rem) / 3)); }
.crops img, .heat img { width: 100%; height: auto; display: block; border-radius: 4px; }
.row { display: flex; flex-wrap: wrap; gap: 0.3rem 2.5rem; max-width: 58rem; }
.row > div { flex: 1 1 17rem; }
.heat { float: left; margin: 0.3rem 1rem 0.3rem 0; } .after { clear: both; }
summary { cursor: pointer; padding: 0.3rem 0; } .scores td, .scores th { text-align: right; }
.files td:nth-child(n), .files th:nth-child(n) { text-align: left; vertical-align: top; }
.files td:first-child { min-width: 10rem; max-width: 24rem; white-space: normal; }
.files td:last-child { white-space: normal; min-width: 14rem; }
.files button { font: inherit; font-weight: bold; color: inherit; background: none; padding: 0.2rem;
  border: 1px solid transparent; border-radius: 4px; cursor: pointer; min-height: 24px; }
.files button:hover { border-color: var(--soft); }
.files [aria-sort] button::after { content: " \\2195"; }
.files [aria-sort=ascending] button::after { content: " \\2191"; }
.files [aria-sort=descending] button::after { content: " \\2193"; }
@media (max-width: 30rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: 0.4rem; }
  .heat { float: none; } }
@media print { html { font-size: 12px; } body { font-size: 1rem; } p { max-width: none; }
  .answer, .face h3 { break-after: avoid; } .hint, .walk,
  details:not([open]) { display: none; }
  .plot { grid-template-rows: 11rem auto 0 auto; }
  button::after { content: none !important; } .back { display: none; } }
"""
