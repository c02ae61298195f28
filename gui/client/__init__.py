"""The console's side of the admin API: calls, the event stream, and whether there is an engine at all.

Everything runs on Qt's event loop; what reads files or starts processes runs in a thread of
its own and answers by signals. Nothing here ever makes the screen wait.
"""
