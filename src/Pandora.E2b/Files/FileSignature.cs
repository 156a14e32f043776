using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Http;

namespace Pandora.E2b.Files;

/// <summary>
/// A signature that stands for the token in an address of <c>/files</c>: the SHA-256 of the path, the operation, the user, the token and
/// the time of its end, with colons between them, in base64 without padding, after <c>v1_</c>.
/// </summary>
internal static class FileSignature
{
    /// <summary>Checks the signature of a request.</summary>
    /// <param name="request">The request.</param>
    /// <param name="token">The sandbox's token.</param>
    /// <param name="now">The time.</param>
    /// <returns>What is wrong; null when it is right.</returns>
    public static string? Refuse(HttpRequest request, string token, DateTimeOffset now)
    {
        var query = request.Query;
        var shown = query["signature"].ToString();
        if (shown.Length == 0)
        {
            return "missing signature query parameter";
        }

        var operation = HttpMethods.IsPost(request.Method) ? "write" : "read";
        var end = query["signature_expiration"].ToString();
        var wanted = Of(query["path"].ToString(), operation, query["username"].ToString(), token, end.Length > 0 ? end : null);
        if (!E2bSandbox.IsToken(shown, wanted))
        {
            return "invalid signature";
        }

        return end.Length > 0
            && !(long.TryParse(end, NumberStyles.None, CultureInfo.InvariantCulture, out var seconds) && seconds >= now.ToUnixTimeSeconds())
                ? "signature is already expired"
                : null;
    }

    /// <summary>Makes a signature.</summary>
    public static string Of(string path, string operation, string user, string token, string? end)
    {
        var text = $"{path}:{operation}:{user}:{token}{(end is null ? "" : $":{end}")}";
        return "v1_" + Convert.ToBase64String(SHA256.HashData(Encoding.UTF8.GetBytes(text))).TrimEnd('=');
    }
}
