# The static programs that `make image` built on the host, and nothing else: no shell, no libc, no
# package manager. Needs no registry, so it builds where none can be reached.
FROM scratch
COPY portcullis portcullis-gate /usr/bin/
# Nobody in particular; a number, so that runAsNonRoot can be checked without a passwd file.
USER 65532:65532
# admission over TLS
EXPOSE 8443
# live, ready, metrics
EXPOSE 8080
ENTRYPOINT ["/usr/bin/portcullis"]
