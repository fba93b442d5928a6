// Opens a picture large; the arrow keys go to its neighbours. The page is whole without this file.
"use strict";

const button = (name, text, action) => {
  const made = document.createElement("button");
  made.type = "button";
  made.className = name;
  made.textContent = text;
  made.addEventListener("click", action);
  return made;
};

const browse = (browser) => {
  const dialog = document.createElement("dialog");
  dialog.className = "large";
  dialog.setAttribute("aria-label", "One picture, large");
  const place = document.createElement("div");
  let current = null;

  const show = (picture) => {
    current = picture;
    const copy = document.createElement("div");
    copy.className = picture.className;
    copy.append(...[...picture.children].map((child) => child.cloneNode(true)));
    place.replaceChildren(copy);
  };
  const step = (by) => {
    const shown = [...browser.querySelectorAll("li.picture")].filter(
      (picture) => picture.getClientRects().length > 0, // the filter hides the others
    );
    const next = shown[shown.indexOf(current) + by];
    if (next) show(next);
  };

  const bar = document.createElement("nav");
  bar.setAttribute("aria-label", "Pictures");
  bar.append(
    button("", "← previous", () => step(-1)),
    button("", "next →", () => step(1)),
    button("", "close", () => dialog.close()),
  );
  dialog.append(place, bar);
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  browser.append(dialog);

  for (const picture of browser.querySelectorAll("li.picture")) {
    const open = button("enlarge", "enlarge", () => {
      show(picture);
      dialog.showModal();
    });
    open.setAttribute("aria-label", `Enlarge ${picture.querySelector("p").textContent.trim()}`);
    picture.querySelector("p:last-child").append(open);
  }
};

document.querySelectorAll(".browser").forEach(browse);
