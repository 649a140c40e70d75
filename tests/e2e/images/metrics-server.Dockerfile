# What measures pods for autoscalers, built of its own Go module.
FROM scratch AS portcullis-e2e-metrics-server
COPY metrics-server /
USER 65534:65534
EXPOSE 10250
ENTRYPOINT ["/metrics-server"]
