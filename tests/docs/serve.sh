# Starts a server on a free port for the page that sources this file, and sets NAS_SERVER; `stop` ends it with its Ray.
port=$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
nas serve --port "$port" >serve.log 2>&1 &
echo $! >serve.pid
export NAS_SERVER=http://127.0.0.1:$port
until python -c "import urllib.request; urllib.request.urlopen('$NAS_SERVER/api/v1/health')" 2>/dev/null; do
    kill -0 "$(cat serve.pid)" || { cat serve.log; exit 1; }
    sleep 0.5
done
