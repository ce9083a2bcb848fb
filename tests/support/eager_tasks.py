"""Every event loop of the tests starts its tasks eagerly (Python 3.12 or newer), as some applications have it:
`pytest -p tests.support.eager_tasks`. A task's first step is then done before whoever made it goes on.
"""

import asyncio

_new_event_loop = asyncio.events.new_event_loop


def _new_eager_event_loop() -> asyncio.AbstractEventLoop:
    loop = _new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
    return loop


asyncio.new_event_loop = asyncio.events.new_event_loop = _new_eager_event_loop
