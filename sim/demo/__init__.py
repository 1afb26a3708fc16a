"""`./run demo`: a lunch on a real campus of processes, shown live, then audited.

Read in this order: lunch (what happens), view (how it is shown), command.
"""
