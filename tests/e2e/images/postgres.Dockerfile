# A real PostgreSQL of this machine's own package, with its libraries and an empty database "shop".
FROM scratch AS portcullis-e2e-postgres
COPY root /
COPY --chown=999:999 state /
USER 999:999
# Not SIGTERM, at which it would wait for its clients.
STOPSIGNAL SIGINT
EXPOSE 5432
ENTRYPOINT ["/usr/bin/postgres", "-D", "/data"]
