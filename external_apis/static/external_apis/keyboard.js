// Letters typed to choose in a select are not shortcuts: unfold's "c" would leave the form and lose what is in it.
document.addEventListener("keydown", (event) => {
  const isLetter = event.key.length === 1 && !event.ctrlKey && !event.metaKey && !event.altKey;
  if (isLetter && event.target instanceof HTMLSelectElement) event.stopPropagation();
});
