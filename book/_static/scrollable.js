// What scrolls in a box of its own must be within reach of the keyboard.
function markScrollable() {
  const boxes = "pre, div.math, .table-wrapper, .output.text_html";
  for (const box of document.querySelectorAll(boxes)) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}
addEventListener("load", markScrollable);
addEventListener("resize", markScrollable);
