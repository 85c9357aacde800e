"""Who is calling, and what may they do: authenticators, service keys, task rules, stream tickets, the admin token."""

from taskcast_server.auth.admin import AdminDesk, MintedToken, can_sign, may_administer, mint_token, open_admin_desk
from taskcast_server.auth.assembly import (
    GuardedAuthenticator,
    as_authenticator,
    jwt_options,
    mode_options,
    open_authenticator,
)
from taskcast_server.auth.bearer import bearer_token
from taskcast_server.auth.custom import CustomAuthenticator
from taskcast_server.auth.jwt import JwtAuthenticator
from taskcast_server.auth.none import OPEN, NobodyAuthenticator, OpenAuthenticator
from taskcast_server.auth.options import AccessOptions, AuthOptions, CustomOptions, JwtOptions, TrustedService
from taskcast_server.auth.rules import satisfies
from taskcast_server.auth.service_keys import ServiceKeys
from taskcast_server.auth.tickets import IssuedTicket, Ticket, TicketOffice, ticket_secret

__all__ = [
    "OPEN", "AccessOptions", "AdminDesk", "AuthOptions", "CustomAuthenticator", "CustomOptions", "GuardedAuthenticator",
    "IssuedTicket", "JwtAuthenticator", "JwtOptions", "MintedToken", "NobodyAuthenticator", "OpenAuthenticator",
    "ServiceKeys", "Ticket", "TicketOffice", "TrustedService", "as_authenticator", "bearer_token", "can_sign",
    "jwt_options", "may_administer", "mint_token", "mode_options", "open_admin_desk", "open_authenticator", "satisfies",
    "ticket_secret",
]  # fmt: skip
