"""A column of large files through a model, in this process or on Ray: `encserve bulk`, no HTTP."""
