"""The drop folder: files that are laid down for a tenant land by themselves, each once, whatever dies meanwhile.

Belongs here: what is in the folder, what of it is new, and how far each file has landed. Does not belong here: reading
a format and judging records (`assets.evaluations`). Nothing in the folder is ever moved, renamed or deleted.
"""
