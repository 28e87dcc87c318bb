"use strict";
const root = document.documentElement;
const tags = { en: "en", zh: "zh-CN" };
function speak(lang) {
  root.dataset.lang = lang;
  root.lang = tags[lang];
  for (const button of document.querySelectorAll("[data-set]"))
    button.setAttribute("aria-pressed", String(button.dataset.set === lang));
}
for (const button of document.querySelectorAll("[data-set]"))
  button.addEventListener("click", () => speak(button.dataset.set));
document.getElementById("theme").addEventListener("click", () => {
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : window.matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
speak(root.dataset.lang);
