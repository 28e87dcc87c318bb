"use strict";
for (const element of document.querySelectorAll(".tex"))
  katex.render(element.textContent, element, { throwOnError: false, strict: "ignore" });
// Equations are told, in their own letters, how wide their left sides are, to stand below each other, and how wide they
// are where they are narrowest: on paper nothing can be scrolled.
function measure() {
  for (const element of document.querySelectorAll(".equations")) {
    const letter = parseFloat(getComputedStyle(element.querySelector("p")).fontSize);
    const widest = (parts) =>
      Math.max(0, ...[...element.querySelectorAll(parts)].map((part) => part.getBoundingClientRect().width)) / letter;
    const left = widest(".left > .tex");
    element.style.setProperty("--left", left);
    element.style.setProperty("--letters", left + 2 + widest("p > .tex .katex-base"));
  }
}
measure(); // for whoever prints at once
document.fonts.ready.then(measure);
