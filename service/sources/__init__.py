"""Published versions from elsewhere: a folder, a hub, a bucket, a web server."""
