"""Where things are in a listener's pod. All constant: another place is another image, and a roll anyway."""

CONFIG_FILE = "listener.json"
CONFIG_FOLDER = "/etc/aegate/listener"
SECRETS = "/etc/aegate/secrets"
DATABASE = "/etc/aegate/database"
DSN_KEY = "dsn"
DATABASE_CA_KEY = "ca.crt"
"""Beside the DSN, if PostgreSQL's certificate is to be verified."""

BUCKET = "/etc/aegate/bucket"
"""The credentials of the images' bucket, where they lie in one."""

DATA = "/var/lib/aegate"
SPOOL = f"{DATA}/spool"
BLOBS = f"{DATA}/blobs"

CONTAINER_PORT = 11112
"""What the receiver binds, whatever the Service's port: a user without rights may not bind 104."""
HEALTH_PORT = 8080
INDEXER_HEALTH_PORT = 8081

USER = 10001
"""Of the image; owner of what is in spool and blobs."""
