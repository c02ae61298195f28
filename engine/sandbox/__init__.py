"""The simulated bank: a server that answers like Plaid, for demos, development and tests.

It knows nothing of the rest of Syncdesk. `bank.Bank` holds its state and can be used in process;
`server` puts HTTP before it; `command` is ``syncdeskctl sandbox``.
"""
