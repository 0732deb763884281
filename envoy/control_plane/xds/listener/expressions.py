"""Expressions of CEL, the language in which Envoy's filters take conditions."""

from envoy_data_plane.google.api.expr.v1alpha1 import (
    Constant,
    Expr,
    ExprCall,
    ExprIdent,
    ExprSelect,
)

_REQUEST = Expr(ident_expr=ExprIdent(name="request"))


def call(function: str, *args: Expr, target: Expr | None = None) -> Expr:
    """Call a function, or a method of `target`; operators have names such as _&&_."""
    return Expr(call_expr=ExprCall(target=target, function=function, args=list(args)))


def constant(value: int | str) -> Expr:
    """Return a number or a text."""
    if isinstance(value, str):
        return Expr(const_expr=Constant(string_value=value))
    return Expr(const_expr=Constant(int64_value=value))


def of_request(field: str) -> Expr:
    """Return `request.FIELD`."""
    return Expr(select_expr=ExprSelect(operand=_REQUEST, field=field))


def header_of_request(name: str) -> Expr:
    """Return `request.headers["NAME"]`; it is an error, and so no match, when it is absent."""
    return call("_[_]", of_request("headers"), constant(name))
