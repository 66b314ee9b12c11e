"""How calls are written and answers are read: plain Python, shared by the client and the remote one without Django."""
