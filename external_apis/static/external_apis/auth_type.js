// Shows the fieldset of the chosen auth type and hides those of the others. A fieldset belongs to the types that its
// classes name (auth-type-bearer); the server ignores what hidden ones post, so nothing is disabled or cleared.
document.addEventListener("DOMContentLoaded", () => {
  const chooser = document.querySelector("select[name=auth_type]");
  if (!chooser) return;
  const groups = document.querySelectorAll("fieldset[class*='auth-type-']");
  const show = () => {
    for (const group of groups) group.hidden = !group.classList.contains(`auth-type-${chooser.value}`);
  };
  chooser.addEventListener("change", show);
  show();
});
