# The app and its client: one static program.
FROM scratch AS portcullis-e2e-app
COPY e2e-app /
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/e2e-app"]
CMD ["serve"]
