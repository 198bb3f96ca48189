// Binds the traversal sources, which a Gremlin Server does not do by itself: this map becomes global bindings.
// g is the graph; scratch is a second one, in which a test loads and drops what it likes.
[g: traversal().withEmbedded(graph), scratch: traversal().withEmbedded(scratchGraph)]
