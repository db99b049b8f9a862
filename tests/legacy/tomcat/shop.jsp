<%@ page contentType="text/html; charset=utf-8" session="true" %><%
    // Sessions are in the URL (`;jsessionid=…`) for browsers without cookies, which is for `encodeURL` to decide.
    String action = String.valueOf(request.getParameter("do"));
    if (action.equals("add")) {
        Object items = session.getAttribute("items");
        session.setAttribute("items", (items == null ? "" : items + " ") + request.getParameter("item"));
        response.sendRedirect(response.encodeRedirectURL("shop.jsp"));
        return;
    }
    if (action.equals("upload")) {
        jakarta.servlet.http.Part part = request.getPart("file");
        session.setAttribute("items", part.getSubmittedFileName() + ":" + part.getSize());
    }
    if (action.equals("later")) {
        response.setHeader("Refresh", "0; URL=" + response.encodeURL(request.getContextPath() + "/shop.jsp"));
    }
    if (action.equals("leave")) {
        session.invalidate();
        response.sendRedirect(request.getContextPath() + "/login.html");
        return;
    }
%><p>Items: <%= session.getAttribute("items") %></p>
<p>Length: <%= request.getContentLengthLong() %></p>
<a href="<%= response.encodeURL("shop.jsp?do=add&item=pen") %>">a pen</a>
<form method="post" action="<%= response.encodeURL("shop.jsp") %>"></form>
