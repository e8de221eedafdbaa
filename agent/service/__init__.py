"""What operators ask of the running agent, one matter a file; the API serves it.

Each part takes the running parts it asks (pipeline, store, dispatcher, …) and `Live`, which holds
what a reload replaces. Answers are typed rows: what `/v1/…` says as JSON, and its schema.
"""
