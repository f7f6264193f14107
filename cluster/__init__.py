"""The Kubernetes API, as the other packages use it: access, reads, server-side apply, Jobs.

Objects are the API server's own JSON, as plain dictionaries: custom resources and fields that a
client library does not know pass through whole, and ten thousand pods cost no more than their
text. The official client reads kubeconfigs and service accounts, signs in, and keeps the
connections; it is imported when a cluster is reached, not before.
"""
