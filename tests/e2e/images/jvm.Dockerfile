# A small web app on a real JVM of this machine's own JDK: as much of it as the app needs, with its libraries.
FROM scratch AS portcullis-e2e-jvm
COPY root /
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/jre/bin/java", "-Xmx48m", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-cp", "/app", "Shop"]
