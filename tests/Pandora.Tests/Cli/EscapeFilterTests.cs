using System.Text;
using Pandora.Cli.Sessions;

namespace Pandora.Tests.Cli;

public sealed class EscapeFilterTests
{
    [Theory]
    [InlineData("ls\r", "ls\r", false)]
    [InlineData("~.", "", true)]
    [InlineData("ls\r~.more", "ls\r", true)]
    [InlineData("cd ~.\r", "cd ~.\r", false)]
    [InlineData("~~.", "~.", false)]
    [InlineData("~/x\r", "~/x\r", false)]
    [InlineData("~\r~.", "~\r", true)]
    public void A_tilde_and_a_point_at_the_beginning_of_a_line_leave(string typed, string passed, bool isLeaving)
    {
        Assert.Equal((passed, isLeaving), Take(new EscapeFilter(), [typed]));
        // Each key by itself, as it is typed.
        Assert.Equal((passed, isLeaving), Take(new EscapeFilter(), typed.Select(c => c.ToString())));
    }

    private static (string Passed, bool IsLeaving) Take(EscapeFilter filter, IEnumerable<string> pieces)
    {
        var passed = "";
        foreach (var piece in pieces)
        {
            passed += Encoding.UTF8.GetString(filter.Take(Encoding.UTF8.GetBytes(piece), out var isLeaving));
            if (isLeaving)
            {
                return (passed, true);
            }
        }

        return (passed, false);
    }
}
