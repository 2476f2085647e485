"""Two short texts whose lines are of every kind that the corpus knows."""

PLAY = "\n\n".join(f"King:\nCome, Night {i}!\nAnd stay." for i in range(30))
MANUAL = """The pass statement
******************

   pass_stmt ::= "pass"

It is a null operation. It does
nothing, for example:

   >>> def f(arg): pass
   ... x = 1

Done.
"""
