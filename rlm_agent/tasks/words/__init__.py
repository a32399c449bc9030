"""Word problems of several calculations, made from templates, with numbers too large to do in one's head."""
