"""The server: models over HTTP. It needs the extra ``serve``, whose packages `yoloship.cli.serve` checks for.

A request goes through `guard` (its id, its key, its log line), `routes` (what is asked), `bodies` (the images in it),
`admission` (whether there is room), `engine` (the model) and `answers` (JSON or an annotated image). If the model has
no room, `guard` refuses the request as soon as `connections` has its head. `app` puts these together; `listening` runs
the app in a process.
"""
