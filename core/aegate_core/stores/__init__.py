"""What is kept: blobs, spool, index, queue. The stores do not know one another."""
