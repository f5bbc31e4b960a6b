"""Pages for people: the queue, the links, their copies. Made on the server, without scripts; nothing can be changed."""
