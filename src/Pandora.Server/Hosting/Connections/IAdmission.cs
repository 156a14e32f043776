namespace Pandora.Server.Hosting.Connections;

/// <summary>
/// Receives reports about the requests on a connection. It is a feature of the connection, so each request on the connection has it. In
/// tests without connections it is missing.
/// </summary>
internal interface IAdmission
{
    /// <summary>Records that a request has come, which the server has not checked yet. Several may run at once.</summary>
    void Begin();

    /// <summary>Records that the request passed, but by something that many may have who are no clients of this server: a public port, or
    /// a link. While it runs the connection has no time limit, and it may be closed for a new one.</summary>
    void Serve();

    /// <summary>Records that the request was accepted: the connection is no longer closed for new ones.</summary>
    /// <param name="ended">Cancelled when that is over: the key was revoked, or no request passes without a key any more.</param>
    void Admit(CancellationToken ended);

    /// <summary>Records that the request was answered. When no other runs, and none was accepted, the connection waits for the next
    /// request.</summary>
    void End();
}
