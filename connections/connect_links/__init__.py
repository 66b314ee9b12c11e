"""Links that let somebody without an admin account connect one account: made, shown, fulfilled, reported back."""
