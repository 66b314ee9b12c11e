"""The pages that everybody may open: the blog and the contact form. They work without JavaScript."""
