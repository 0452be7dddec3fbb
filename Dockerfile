# CPU image of the server: docker build -t unblur . && docker run --rm -p 127.0.0.1:8000:8000 unblur
FROM python:3.12-slim AS build
COPY pyproject.toml README.md LICENSE /source/
COPY src /source/src
COPY deploy/install.sh /source/deploy/install.sh
RUN /source/deploy/install.sh /opt/unblur

FROM python:3.12-slim
COPY --from=build /opt/unblur /opt/unblur
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin unblur
ENV PATH=/opt/unblur/bin:$PATH PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
USER 10001
WORKDIR /tmp
EXPOSE 8000
# Uploads and results are unnamed files in /tmp; nothing else is written, so the root can be read-only.
VOLUME /tmp
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["unblur"]
CMD ["serve", "--host", "0.0.0.0"]
