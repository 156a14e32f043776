using Microsoft.AspNetCore.Http;
using Pandora.E2b;
using Pandora.E2b.Files;

namespace Pandora.Tests.E2b;

/// <summary>What a request is for, and which signatures open a file.</summary>
public sealed class E2bTargetTests
{
    private const string Id = "abc12defghijklmnopqrstuv";

    [Theory]
    // By the path.
    [InlineData("127.0.0.1:8000", "/e2b/sandboxes", null, "control /sandboxes")]
    [InlineData("127.0.0.1:8000", "/e2b", null, "control ")]
    [InlineData("127.0.0.1:8000", "/e2bx/sandboxes", null, "none")]
    [InlineData("127.0.0.1:8000", "/sandboxes", null, "none")]
    [InlineData("127.0.0.1:8000", "/e2b/files", "49983", $"{Id}:49983 /files")]
    [InlineData("127.0.0.1:8000", "/e2b/files", "", $"{Id}:49983 /files")]
    [InlineData("127.0.0.1:8000", "/e2b/x", "3000", $"{Id}:3000 /x")]
    [InlineData("127.0.0.1:8000", "/e2b/x", "65536", $"{Id}:0 /x")]
    [InlineData("127.0.0.1:8000", "/e2b/x", "-1", $"{Id}:0 /x")]
    // By the host.
    [InlineData("api.boxes.example:8443", "/sandboxes", null, "control /sandboxes")]
    [InlineData("API.BOXES.EXAMPLE.", "/sandboxes", null, "control /sandboxes")]
    [InlineData("api.localhost:8000", "/v2/sandboxes", null, "control /v2/sandboxes")]
    [InlineData("sandbox.boxes.example", "/files", "49983", $"{Id}:49983 /files")]
    [InlineData("sandbox.boxes.example", "/files", null, "none")]
    [InlineData($"3000-{Id}.boxes.example:8443", "/a", null, $"{Id}:3000 /a by host")]
    [InlineData($"3000-{Id}-more.boxes.example", "/a", null, $"{Id}:3000 /a by host")]
    [InlineData($"3000-{Id}.localhost", "/a", null, $"{Id}:3000 /a by host")]
    // The path below a port's host is the guest's.
    [InlineData($"3000-{Id}.boxes.example", "/e2b/sandboxes", null, $"{Id}:3000 /e2b/sandboxes by host")]
    [InlineData($"0-{Id}.boxes.example", "/a", null, "none")]
    [InlineData($"65536-{Id}.boxes.example", "/a", null, "none")]
    [InlineData($"x.3000-{Id}.boxes.example", "/a", null, "none")]
    [InlineData($"3000-{Id}-x.api.boxes.example", "/a", null, "none")]
    [InlineData("boxes.example", "/a", null, "none")]
    [InlineData("api.other.example", "/sandboxes", null, "none")]
    public void A_request_is_for_the_control_API_a_port_or_none_of_both(string host, string path, string? port, string expected)
    {
        var request = new DefaultHttpContext().Request;
        (request.Host, request.Path) = (new HostString(host), path);
        if (port is not null)
        {
            request.Headers["E2b-Sandbox-Id"] = Id;
            request.Headers["E2b-Sandbox-Port"] = port;
        }

        Assert.Equal(expected, E2bTarget.Of(request, "boxes.example") switch
        {
            null => "none",
            { SandboxId: null } control => $"control {control.Path}",
            var guest => $"{guest.SandboxId}:{guest.Port} {guest.Path}{(guest.IsByHost ? " by host" : "")}",
        });
    }

    [Theory]
    [InlineData("GET", "", null)]
    [InlineData("GET", "&username=root", "invalid signature")]
    [InlineData("POST", "", "invalid signature")]
    [InlineData("GET", "&signature_expiration=99999999999", "invalid signature")]
    public void A_signature_is_for_one_path_operation_user_and_time(string method, string more, string? refusal)
    {
        // The example of E2B's own tests.
        const string Token = "0tQG31xiMp0IOQfaz9dcwi72L1CPo8e0", Signature = "v1_gUtH/s9YCJWgCizjfUxuWfhFE4QSydOWEIIvfLwDr6E";
        Assert.Equal(Signature, FileSignature.Of("hello.txt", "read", "user", Token, end: null));
        var request = new DefaultHttpContext().Request;
        request.Method = method;
        var user = more.Contains("username", StringComparison.Ordinal) ? "" : "&username=user";
        request.QueryString = new QueryString($"?path=hello.txt{user}&signature={Uri.EscapeDataString(Signature)}{more}");
        Assert.Equal(refusal, FileSignature.Refuse(request, Token, DateTimeOffset.UnixEpoch));
        request.QueryString = new QueryString("?path=hello.txt");
        Assert.Equal("missing signature query parameter", FileSignature.Refuse(request, Token, DateTimeOffset.UnixEpoch));
    }

    [Fact]
    public void A_signature_ends_after_its_last_second()
    {
        var request = new DefaultHttpContext().Request;
        request.Method = "GET";
        var signature = Uri.EscapeDataString(FileSignature.Of("a", "read", "", "token", "100"));
        request.QueryString = new QueryString($"?path=a&signature={signature}&signature_expiration=100");
        Assert.Null(FileSignature.Refuse(request, "token", DateTimeOffset.FromUnixTimeSeconds(100)));
        Assert.Equal("signature is already expired", FileSignature.Refuse(request, "token", DateTimeOffset.FromUnixTimeSeconds(101)));
        Assert.Equal("invalid signature", FileSignature.Refuse(request, "other", DateTimeOffset.FromUnixTimeSeconds(100)));
    }
}
