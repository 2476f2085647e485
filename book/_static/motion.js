// Moving pictures that were stored without a button of their own get one: it swaps the picture
// for its still frames, which lie beside it for readers who ask for less motion.
document.addEventListener("DOMContentLoaded", () => {
  for (const image of document.querySelectorAll('picture > img[src^="data:image/gif"]')) {
    const source = image.parentElement.querySelector("source");
    if (!source || matchMedia("(prefers-reduced-motion: reduce)").matches) continue;
    const moving = image.src;
    const still = source.srcset;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "gentok-pause";
    button.textContent = "Pause or play";
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      const paused = image.src === moving;
      image.src = paused ? still : moving;
      button.setAttribute("aria-pressed", String(paused));
    });
    image.parentElement.before(button);
  }
});
