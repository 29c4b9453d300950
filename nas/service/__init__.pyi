from .audit import AuditLog as AuditLog
from .client import NasClient as NasClient
from .client.following import PATIENCE_S as PATIENCE_S
from .http.logs import log_to_stderr as log_to_stderr
from .http.server import serve as serve
from .http.tokens import Tokens as Tokens
from .jobs.ray_head import end_head as end_head
from .webhooks import checked_webhook as checked_webhook
