"""What a run finds at each destination, what it leaves there, and what must hold of that; a module each."""
