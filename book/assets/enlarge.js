// A figure that is clicked, or chosen by keyboard, is shown as large as the window allows; a click or Escape closes it.
document.addEventListener("DOMContentLoaded", () => {
  const dialog = document.createElement("dialog");
  const frame = document.createElement("button");
  dialog.className = "enlarged";
  dialog.setAttribute("aria-label", "Figure, enlarged");
  dialog.append(frame);
  document.body.append(dialog);
  dialog.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => { // told late: the next figure may be open by now
    if (!dialog.open) frame.replaceChildren();
  });
  for (const figure of document.querySelectorAll(".bd-article figure")) { // captions that hold for a light page
    const shades = /\b(light|dark)(er|est)?\b/i.test(figure.querySelector("figcaption")?.textContent ?? "");
    figure.classList.toggle("shades", shades);
  }
  for (const image of document.querySelectorAll(".bd-article figure img, .bd-article .cell_output img")) {
    if (image.closest("a, button")) continue;
    const button = document.createElement("button");
    button.className = "enlarge";
    button.type = "button";
    image.replaceWith(button);
    button.append(image);
    button.addEventListener("click", () => {
      frame.replaceChildren(image.cloneNode());
      dialog.showModal();
    });
  }
});
